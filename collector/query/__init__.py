"""The search language and times in human words. Pure: text in, conditions and nanoseconds out.

```text
declined                          a word of the message        "card declined"       words in a row
service:orders level:>=WARN       all of them                  a OR b, NOT a, -a     Lucene's operators
order_id:[10 TO 20]               both ends included           {10 TO 20}            neither
duration:>250ms status:>=500      comparisons                  name:GET*             wildcards * and ?
http.route:/orders/{id}           : and / need no quotes       user.id:*             has the field
attributes.service:x              an attribute that is called as a field of ours is
a >> b                            a span like a, and anywhere below it one like b     (traces only)
a > b                             b is a child of a                                   (traces only)
```

Juxtaposition is AND: `a b OR c` is `a AND (b OR c)`. `>>` and `>` stand between blanks and bind least of
all: `a b >> c > d` is a span like `a AND b`, below it one like `c`, which has a child like `d`. A span is
like what it or one of its log lines matches. The signs are TraceQL's (Grafana Tempo, "Structural operators").
"""

from collector.query.fields import FIELD_NAMES
from collector.query.language import QUERY_CHARS_MAX, parse_query, parse_structure
from collector.query.times import parse_duration, parse_time

__all__ = ["FIELD_NAMES", "QUERY_CHARS_MAX", "parse_duration", "parse_query", "parse_structure", "parse_time"]
