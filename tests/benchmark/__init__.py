"""What things cost, printed. No asserts on time: this machine is shared. `make bench` runs all of it."""
