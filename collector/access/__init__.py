"""Who may call what: tokens and their scopes, shares of senders, certificates, the audit trail."""

from collector.access.audit import AuditEvent, AuditTrail, audit_line
from collector.access.keyring import Caller, Keyring, fixed_tokens, keyring_of, last_used, use_path_of
from collector.access.rates import SenderRates
from collector.access.tls import ServerTls, client_context
from collector.access.tokens import SCOPES, Scope, Token, TokenFile

__all__ = [
    "SCOPES",
    "AuditEvent",
    "AuditTrail",
    "Caller",
    "Keyring",
    "Scope",
    "SenderRates",
    "ServerTls",
    "Token",
    "TokenFile",
    "audit_line",
    "client_context",
    "fixed_tokens",
    "keyring_of",
    "last_used",
    "use_path_of",
]
