"""The demo shop under real servers, driven over real sockets, killed with real signals."""
