"""A small shop of real processes, a fault in it, and the verdict: `backtrail demo`.

    traffic ─► gateway ──HTTP──► orders ──gRPC──► inventory
               (ASGI)            (WSGI)  ──queue─► payments (Celery, prefork)

Each service is a program like anybody's: `tracing.configure()`, `tracing.instrument()`, and its work.
What can go wrong in it is in `faults/`, each fault with its known answer.
"""
