"""Azure's confidential VMs: a report about a paravisor, which vouches for a virtual TPM, and that for the guest."""
