"""The program that simulates bundles in the Lava interpreter; nothing of snndeploy imports it."""
