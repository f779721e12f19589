"""What hardware's vendors publish: certificates, revocation lists, TCB information. Fetched, never trusted."""
