"""Where a running system loses the context: what arrived without it, and what it probably belongs to."""
