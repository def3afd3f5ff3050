"""Kubernetes: pods, from cgroups, the kubelet and the API server."""
