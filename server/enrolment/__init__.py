"""Who belongs to the federation: certificates, invitations, keys, and who left again."""
