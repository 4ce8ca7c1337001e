"""Who may call what: tokens and their scopes, shares of senders, certificates, the audit trail.

Nothing is imported here: a client wants `tls` alone, and not the settings of a service.
"""
