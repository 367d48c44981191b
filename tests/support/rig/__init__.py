"""What the tests of the deployment stand on: hosts that are network namespaces, a DNS, nginx, a container engine."""
