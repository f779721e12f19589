"""A policy reaches its guest unchanged, and what is measured is what the guest unpacks."""

import base64
import gzip
import hashlib
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.resources import INITDATA, POLICY
from policy.carrier import MAX_BYTES, carried, carry, initdata_document, measured_bytes, policy_in
from policy.errors import PolicyTextError
from tests.support.policies import RICH, case


def packed(document: bytes) -> str:
    return base64.b64encode(gzip.compress(document)).decode()


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(["'''", "a'", "\x7f", '"""', "\\"])
)
def test_any_text_comes_out_of_initdata_as_it_went_in(text: str) -> None:
    """A quote too many would cut the policy, and the rest of it would be other people's TOML."""
    document = initdata_document(text)
    assert tomllib.loads(document.decode()) == {
        "version": "0.1.0", "algorithm": "sha256", "data": {"policy.rego": text},
    }  # fmt: skip
    assert policy_in(document) == text


@pytest.mark.parametrize("initdata", [False, True], ids=["annotation", "initdata"])
def test_the_annotation_holds_what_is_measured(initdata: bool) -> None:
    text = case(RICH).policy.text
    found = carry(text, initdata=initdata)
    assert found.annotation == (INITDATA if initdata else POLICY)
    assert measured_bytes({found.annotation: found.value, "x": "y"}) == found.measured
    assert policy_in(found.measured) == text
    assert carried(found.measured) == found == carry(text, initdata=initdata)
    assert (found.measured == text.encode()) != initdata
    if initdata:
        # As a guest does it, with nothing of ours: base64, gzip, hash.
        document = gzip.decompress(base64.b64decode(found.value))
        assert hashlib.sha256(document).digest() == hashlib.sha256(found.measured).digest()
        assert len(found.value) < len(text) / 3  # All annotations of a pod have 256 KiB together.
        assert "\npackage agent_policy" in document.decode()  # A reviewer reads it as it is.


def test_a_policy_too_large_for_an_annotation_is_refused_before_anything_is_written() -> None:
    """The API server would refuse the pod, and say nothing of policies."""
    large = "\n".join(f"# {number:060d}" for number in range(4000))
    with pytest.raises(PolicyTextError, match="--initdata"):
        carry(large, initdata=False)
    assert len(carry(large, initdata=True).value) < 40_000
    noise = base64.b64encode(
        b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(9000))
    ).decode()
    with pytest.raises(PolicyTextError, match="make the pod smaller"):
        carry(noise, initdata=True)


def test_a_document_of_somebody_else_is_measured_as_it_is() -> None:
    """Order and quoting count: nothing is written anew."""
    document = b'version="0.1.0"\nalgorithm="sha256"\n[data]\n"aa.toml"="x"\n"policy.rego"="package agent_policy"\n'
    assert measured_bytes({INITDATA: packed(document)}) == document
    assert policy_in(document) == "package agent_policy"


def test_what_no_guest_could_use_is_refused() -> None:
    assert measured_bytes({}) is None
    for annotations, words in (
        ({POLICY: "eA==", INITDATA: "eA=="}, "remove one"),
        ({POLICY: "&"}, "no base64"),
        ({INITDATA: "&"}, "no base64"),
        ({INITDATA: "eA=="}, "no gzip"),
        ({INITDATA: packed(initdata_document("x"))[:40]}, "no"),
        ({INITDATA: packed(b"package agent_policy")}, "version"),
        ({INITDATA: packed(b"version" + bytes(MAX_BYTES))}, "more than"),
    ):
        with pytest.raises(PolicyTextError, match=words):
            measured_bytes(annotations)
    for document, words in (
        (b"version = ", "no TOML"),
        (b'version = "0.2.0"\nalgorithm = "sha256"\n', "0.2.0"),
        (b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"policy.rego" = "x"\n', "sha384"),
        (b'version = "0.1.0"\nalgorithm = "sha256"\n', "no policy.rego"),
        (b"\xff", "UTF-8"),
    ):
        with pytest.raises(PolicyTextError, match=words):
            policy_in(document)
