r"""Access logs of HAProxy and nginx, in a format that holds token counts.

Neither counts tokens itself: the server behind it has to say them in headers of its answers (here
`x-prompt-tokens` and `x-output-tokens`), which a streaming server cannot, so such logs suit
endpoints without streams; `forebay record proxy` reads streams. `CONFIGURATION` has the lines that
make either write what is read without a `--pattern`; what a syslog daemon puts before it does no
harm. A pattern of one's own needs the named groups `time`, `prompt_tokens` and `output_tokens`, and
may have `class`, `tenant` and `took`: seconds that `time`, where it is the end's, lies after the
request's arrival.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from forebay.record.log_lines import (
    LogLine,
    ReadLine,
    Rules,
    UnreadableLineError,
    class_name,
    tokens,
)
from forebay.record.own_logs import moment

_COUNTS = (
    r" prompt_tokens=(?P<prompt_tokens>\S*) output_tokens=(?P<output_tokens>\S*)"
    r"(?: class=(?P<class>\S*))?(?: tenant=(?P<tenant>\S*))?"
)
PATTERNS: Mapping[str, str] = {
    "haproxy": r"\[?(?P<time>\d{1,2}/[A-Za-z]{3}/\d{4}:[\d:.]+)\]?" + _COUNTS,
    "nginx": r"(?P<time>\d+\.\d+) (?P<took>[\d.]+|-)" + _COUNTS,
}
CONFIGURATION: Mapping[str, str] = {
    "haproxy": """\
http-request  set-var(txn.class)  req.hdr(x-forebay-class)
http-request  set-var(txn.tenant) req.hdr(x-tenant)
http-response set-var(txn.prompt) res.hdr(x-prompt-tokens)
http-response set-var(txn.output) res.hdr(x-output-tokens)
log-format "%tr prompt_tokens=%[var(txn.prompt)] output_tokens=%[var(txn.output)]\
 class=%[var(txn.class)] tenant=%[var(txn.tenant)]"
""",
    "nginx": """\
log_format forebay '$msec $request_time prompt_tokens=$sent_http_x_prompt_tokens '
                   'output_tokens=$sent_http_x_output_tokens '
                   'class=$http_x_forebay_class tenant=$http_x_tenant';
""",
}
_NEEDED = frozenset({"time", "prompt_tokens", "output_tokens"})
_KNOWN = _NEEDED | {"class", "tenant", "took"}


def access_log_reader(pattern: str) -> ReadLine:
    """What reads lines by a pattern.

    Raises:
        ValueError: it is no regular expression, lacks a group, or has one that means nothing.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    groups = set(compiled.groupindex)
    if _NEEDED - groups:
        raise ValueError(f"has no group named {', '.join(sorted(_NEEDED - groups))}")
    if groups - _KNOWN:
        unknown = ", ".join(sorted(groups - _KNOWN))
        raise ValueError(f"group {unknown} means nothing here; known: {', '.join(sorted(_KNOWN))}")

    def read(line: str, rules: Rules) -> LogLine:
        match = compiled.search(line)
        if match is None:
            raise UnreadableLineError("does not match the pattern")
        return _read(match.groupdict(), rules)

    return read


def _read(values: Mapping[str, str | None], rules: Rules) -> LogLine:
    took = values.get("took")
    return LogLine(
        at=moment(values["time"]) - (_seconds(took) if took else 0.0),
        prompt_tokens=tokens(values, "prompt_tokens"),
        output_tokens=tokens(values, "output_tokens"),
        class_name=class_name(values.get("class")),
        tenant=rules.tenant(values.get("tenant")),
    )


def _seconds(text: str) -> float:
    if text == "-":
        return 0.0
    try:
        return float(text)
    except ValueError:
        raise UnreadableLineError("took is no number of seconds") from None
