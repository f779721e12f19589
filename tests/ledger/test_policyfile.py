"""Witness policies: read as C2SP tlog-policy says, whole quorums only, and no clock of a minority."""

import hashlib
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.note import KeyType, VerifierKey
from ledger.policyfile import Policy, PolicyError, parse_policy


def vkey(name: str, kind: KeyType = KeyType.ED25519_COSIGNATURE) -> str:
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    return str(VerifierKey(name, kind, private.public_key().public_bytes_raw()))


X = "".join(f"witness X{number} {vkey(f'x{number}.example')}\n" for number in (1, 2, 3))
Y = "".join(f"witness Y{number} {vkey(f'y{number}.example')} http://y{number}.example/\n" for number in (1, 2, 3))
EXAMPLE = (
    f"# a comment\nlog {vkey('log.example', KeyType.ED25519)}\n\n{X}group X-witnesses 2 X1 X2 X3\n\n"
    f"{Y}group Y-witnesses any Y1 Y2 Y3\n\n \t# another\n"
    "  group\tX-and-Y all  X-witnesses Y-witnesses \nquorum X-and-Y\n"
)


def read(text: str) -> Policy:
    return parse_policy(text.encode())


def test_the_specifications_example_is_read() -> None:
    policy = read(EXAMPLE)
    assert [log.key.name for log in policy.logs] == ["log.example"]
    assert [witness.url for witness in policy.witnesses] == ["", "", ""] + [f"http://y{n}.example/" for n in (1, 2, 3)]
    names = [witness.name for witness in policy.witnesses]
    for count in range(7):
        for some in combinations(names, count):
            enough = sum(name[0] == "X" for name in some) >= 2 and any(name[0] == "Y" for name in some)
            assert policy.satisfied_by(some) == enough, some


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "no quorum line"),
        (f"{X}", "no quorum line"),
        ("quorum none", "newline"),
        ("quorum none\nquorum none\n", "second quorum"),
        ("quorum nobody\n", "not defined"),
        (f"quorum X1\n{X}", "not defined"),
        (f"{X}group g 2 X1 X2 g\nquorum g\n", "not defined"),
        (f"{X}group g 4 X1 X2 X3\nquorum g\n", "wants 4 of its 3"),
        (f"{X}group g 0 X1\nquorum g\n", "threshold"),
        (f"{X}group g 01 X1\nquorum g\n", "threshold"),
        (f"{X}group g some X1\nquorum g\n", "threshold"),
        (f"{X}group g any\nquorum g\n", "no member"),
        (f"{X}group g any none\nquorum g\n", "not defined"),
        (f"{X}group g 2 X1 X1\nquorum g\n", "counts twice"),
        (f"{X}group g any X1\ngroup h all X1 X2\nquorum h\n", "counts twice"),
        (f"{X}group X1 any X2\nquorum X1\n", "is taken"),
        (f"witness none {vkey('w')}\nquorum none\n", "is taken"),
        (f"witness a {vkey('w')}\nwitness b {vkey('w')}\nquorum a\n", "already"),
        (f"log {vkey('l', KeyType.ED25519)}\nlog {vkey('l', KeyType.ED25519)}\nquorum none\n", "already"),
        (f"witness a {vkey('w', KeyType.ED25519)}\nquorum a\n", "none of a witness"),
        (f"log {vkey('w')}\nquorum none\n", "none of a log"),
        ("witness a b\nquorum a\n", "verifier key"),
        (f"witness a {vkey('w')} http://x y\nquorum a\n", "number of words"),
        ("quorum\n", "number of words"),
        ("Quorum none\n", "begins no line"),
        ("quorum none\r\n", "control character"),
        ("quorum\x0bnone\n", "control character"),
    ],
)
def test_a_policy_that_says_less_than_it_seems_is_refused(text: str, because: str) -> None:
    """A quorum that counts one witness twice, or a cut-off file, would protect nobody."""
    with pytest.raises(PolicyError, match=because):
        read(text)


def test_the_line_is_named() -> None:
    with pytest.raises(PolicyError, match="line 4"):
        read(f"{X}group g 9 X1\nquorum g\n")


def test_names_are_octets() -> None:
    """Two names that look alike to Unicode would become one."""
    policy = parse_policy(f"witness K {vkey('a')}\nwitness \N{KELVIN SIGN} {vkey('b')}\n".encode() + b"quorum K\n")
    assert policy.satisfied_by(["K"])
    assert not policy.satisfied_by([policy.witnesses[1].name])
    assert parse_policy(b"# \xff\nquorum none\n").quorum is None


def test_thirty_two_of_each_are_read() -> None:
    lines = [f"log {vkey(f'l{number}', KeyType.ED25519)}\n" for number in range(32)]
    lines += [f"witness w{number} {vkey(f'w{number}')}\n" for number in range(32)]
    lines += [f"group g{number} all w{number}\n" for number in range(32)]
    lines.append("group all 17 " + " ".join(f"g{number}" for number in range(32)) + "\nquorum all\n")
    assert read("".join(lines)).satisfied_by([f"w{number}" for number in range(17)])


def test_a_minority_cannot_move_the_time() -> None:
    """One lying witness would set the clock of the whole ledger, forwards or backwards."""
    policy = read(f"{X}group g 2 X1 X2 X3\nquorum g\n")
    assert policy.time_of({"X1": 100, "X2": 90, "X3": 9_999_999}) == 100
    assert policy.time_of({"X1": 100, "X2": 90, "X3": 0}) == 90
    assert policy.time_of({"X1": 100, "stranger": 100}) is None
    assert read("quorum none\n").time_of({}) is None


@given(st.binary(max_size=300) | st.text("logwitnesgrupqmalX123 \n\t#+", max_size=200).map(str.encode))
def test_any_bytes_are_a_policy_or_a_policy_error(raw: bytes) -> None:
    try:
        parse_policy(raw)
    except PolicyError:
        return
