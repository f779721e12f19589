"""Settings, logs and the epoch's own keys: what exists before there is a ledger."""

import datetime as dt
import io
import json
import logging
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from coordinator.epoch import open_epoch, tls_context
from coordinator.logs import configure
from coordinator.metrics import Metrics
from coordinator.settings import Limits, Settings, SettingsError, read_settings

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


def test_flags_override_the_environment() -> None:
    environ = {
        "CONTRAST_LEDGER": "/a",
        "CONTRAST_USER_PORT": "1",
        "CONTRAST_MESH_PORT": "2",
        "CONTRAST_BIND": "127.0.0.9",
    }
    settings = read_settings(["--ledger", "/b", "--user-port", "0"], environ)
    assert settings == Settings(ledger=Path("/b"), bind="127.0.0.9", user_port=0, mesh_port=2)


def test_defaults_are_the_documented_ones() -> None:
    settings = read_settings(["--ledger", "x"], {})
    assert (settings.user_port, settings.mesh_port, settings.probe_port) == (1313, 7777, 9102)
    assert settings.bind is None
    assert (settings.limits.policy_burst, settings.limits.policy_refill_per_s) == (10_000, 50)
    assert settings.limits == Limits()


@pytest.mark.parametrize(
    ("argv", "environ", "named"),
    [
        ([], {}, "CONTRAST_LEDGER"),
        (["--ledger", "x", "--user-port", "65536"], {}, "CONTRAST_USER_PORT"),
        (["--ledger", "x", "--mesh-port=-1"], {}, "CONTRAST_MESH_PORT"),
        (["--ledger", "x"], {"CONTRAST_PROBE_PORT": "٣"}, "CONTRAST_PROBE_PORT"),
        (["--ledger", "x"], {"CONTRAST_BIND": "localhost"}, "CONTRAST_BIND"),
        (["--ledger", "x", "--leaf-days", "0"], {}, "CONTRAST_LEAF_DAYS"),
        (["--ledger", "x", "--log-level", "loud"], {}, "CONTRAST_LOG_LEVEL"),
    ],
)
def test_a_bad_setting_is_named(argv: list[str], environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        read_settings(argv, environ)


def test_every_start_has_keys_of_its_own() -> None:
    """A reused key would let one start's evidence speak for another's."""
    one, other = open_epoch(NOW), open_epoch(NOW)
    for name in ("public", "hpke_public", "mac_key", "tls_sha256"):
        assert getattr(one, name) != getattr(other, name)


def test_an_epoch_does_not_show_its_keys() -> None:
    epoch = open_epoch(NOW)
    assert all(word not in repr(epoch) for word in ("signing", "hpke=", "mac_key", "tls_key", "PrivateKey"))


def test_forgetting_overwrites_the_mac_key() -> None:
    epoch = open_epoch(NOW)
    epoch.forget()
    assert epoch.mac_key == bytes(32)


def test_the_tls_context_serves_the_attested_certificate() -> None:
    epoch = open_epoch(NOW)
    certificate = x509.load_der_x509_certificate(epoch.tls_certificate)
    key = certificate.public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    assert key.public_numbers() == epoch.tls_key.public_key().public_numbers()
    assert tls_context(epoch).minimum_version.name == "TLSv1_3"


def test_logs_hold_neither_bytes_nor_secrets() -> None:
    stream = io.StringIO()
    configure("info", stream)
    try:
        log = structlog.get_logger()
        log.info(
            "event", report=b"\x01" * 1184, inner={"deep": [b"abc"]}, seed_share="s3cr3t", path="/v1", long="x" * 9999
        )
        log.debug("unheard")
        logging.getLogger("aiohttp.server").warning("strange %s", "thing")
        logging.getLogger("aiohttp.server").info("unheard")
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = []
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["event", "strange thing"]
    assert lines[0]["report"] == "[1184 bytes]"
    assert lines[0]["inner"] == {"deep": ["[3 bytes]"]}
    assert "s3cr3t" not in stream.getvalue()
    assert len(lines[0]["long"]) < 3000


def test_metrics_show_one_state() -> None:
    metrics = Metrics()
    metrics.set_state("recovery")
    text = metrics.text().decode()
    assert 'contrast_coordinator_state{state="recovery"} 1.0' in text
    assert 'contrast_coordinator_state{state="empty"} 0.0' in text
