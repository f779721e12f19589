"""Names: each has one kind and one way to be written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifest.sans import San, SanError, SanKind, parse_san


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("web", SanKind.DNS),
        ("web.default.svc.cluster.local", SanKind.DNS),
        ("*", SanKind.DNS),
        ("*.example.com", SanKind.DNS),
        ("xn--bcher-kva.example", SanKind.DNS),
        ("_sip._tcp.example", SanKind.DNS),
        ("a" * 63, SanKind.DNS),
        ("127.0.0.1", SanKind.IP),
        ("::1", SanKind.IP),
        ("2001:db8::a", SanKind.IP),
        ("spiffe://example.org/web?x=%20", SanKind.URI),
        ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", SanKind.URI),
    ],
)
def test_a_name_has_its_kind(text: str, kind: SanKind) -> None:
    assert parse_san(text) == San(kind, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Web",
        "web.",
        "web..a",
        "-web",
        "web-",
        "we b",
        "bücher.example",
        "w*b.example",
        "a.*.example",
        "**",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x7f000001",
        "1.0x7f",
        "::ffff:192.0.2.1",
        "::ffff:c000:201",
        "web:8080",
        "web.example:443/path",
        "2001:DB8::a",
        "2001:db8:0:0:0:0:0:a",
        "fe80::1%eth0",
        "http://exa mple/",
        "http://example/\n",
        "http://example/%zz",
        "HTTP://example/",
        "web\n",
        "web\0",
        "http:",
        "spiffe://" + "a" * 1100,
    ],
)
def test_what_no_certificate_may_carry_is_refused(text: str) -> None:
    with pytest.raises(SanError):
        parse_san(text)


@pytest.mark.parametrize(
    "text", ["0x7f000001", "1.0x7f", "::ffff:192.0.2.1", "::ffff:c000:201", "web:8080", "web.example:443/path"]
)
def test_a_recorded_name_that_no_new_manifest_may_bring_is_still_read(text: str) -> None:
    """Otherwise a stricter rule would close every ledger whose manifest was set before it."""
    assert parse_san(text, recorded=True).value == text


@pytest.mark.parametrize("text", ["", "web\0", "1.2.3", "256.1.1.1", "WEB"])
def test_what_never_was_a_name_is_none_in_a_recorded_manifest(text: str) -> None:
    with pytest.raises(SanError):
        parse_san(text, recorded=True)


@given(st.text(max_size=60))
def test_no_text_ends_in_anything_but_a_name_or_a_refusal(text: str) -> None:
    try:
        san = parse_san(text)
    except SanError:
        return
    assert san.value == text
    assert text.isascii()
    assert text.isprintable()
