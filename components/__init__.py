"""What the program builds.

network.Network   VPC ── switch ── security group (one described rule for each port and source)
server.Server     image, key pair ── instance ── public address
disk.Disk         disk ── attachment ── instance
login.Login       SSH to it, from when cloud-init has finished
release.Release   archive copied ── release tool run
"""
