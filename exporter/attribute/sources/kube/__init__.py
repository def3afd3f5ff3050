"""Pods: what the kubelet and the API server say of them, and their cgroups."""
