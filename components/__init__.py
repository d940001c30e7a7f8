"""What the program builds.

network.Network   VPC ── switch ── security group (one described rule for each port and source)
server.Server     image, key pair ── instance ── public address
release.Release   cloud-init awaited ── archive copied ── release tool run
"""
