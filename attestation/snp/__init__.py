"""AMD SEV-SNP: reports, endorsement certificates, and the numbered checks that join them."""
