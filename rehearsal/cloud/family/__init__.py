"""CentOS 7 and its family, made of Debian 12: packages, their repository, and what an image has of the family."""
