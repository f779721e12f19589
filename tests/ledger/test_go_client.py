"""An exported log, read by the client of Go's own checksum database. Skipped where Go or its module is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ledger.memory import MemoryStore
from ledger.note import ed25519_key
from ledger.source import write_export
from tests.support.ledger_machine import LEDGER, ORIGIN
from tests.support.ledgers import filled

MODULE = "golang.org/x/mod"
VERSION = "v0.29.0"
PROGRAM = r"""
package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

type files struct{ root string }

func (f files) Height() int                                  { return 8 }
func (f files) SaveTiles(tiles []tlog.Tile, data [][]byte)   {}
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		// The checksum database names the height in its paths, tlog-tiles does not.
		raw, err := os.ReadFile(filepath.Join(f.root, strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

func main() {
	root := os.Args[1]
	raw, err := os.ReadFile(filepath.Join(root, "checkpoint"))
	must(err)
	verifier, err := note.NewVerifier(os.Args[2])
	must(err)
	opened, err := note.Open(raw, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	must(err)
	var head tlog.Hash
	copy(head[:], hash)
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: head}, files{root})
	found, err := tlog.TreeHash(size, reader)
	must(err)
	if found != head {
		must(fmt.Errorf("root differs"))
	}
	seen := int64(0)
	for bundle := int64(0); bundle*256 < size; bundle++ {
		path := fmt.Sprintf("tile/entries/%03d", bundle)
		if rest := size - bundle*256; rest < 256 {
			path += fmt.Sprintf(".p/%d", rest)
		}
		raw, err := os.ReadFile(filepath.Join(root, path))
		must(err)
		for len(raw) > 0 {
			length := int(raw[0])<<8 | int(raw[1])
			leaf := tlog.RecordHash(raw[2 : 2+length])
			proof, err := tlog.ProveRecord(size, seen, reader)
			must(err)
			must(tlog.CheckRecord(proof, size, head, seen, leaf))
			raw = raw[2+length:]
			seen++
		}
	}
	for _, old := range []int64{1, 2, 255, 256, 257, size - 1} {
		small, err := tlog.TreeHash(old, reader)
		must(err)
		proof, err := tlog.ProveTree(size, old, reader)
		must(err)
		must(tlog.CheckTree(proof, size, head, old, small))
	}
	fmt.Println("read", seen, "of", size)
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, built; its module comes through Go's own proxy, pinned by Go's own checksum database."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go toolchain")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(PROGRAM)
    (folder / "go.mod").write_text(f"module reader\n\ngo 1.24\n\nrequire {MODULE} {VERSION}\n")
    environ = {**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false"}
    try:
        subprocess.run(
            [go, "mod", "download", MODULE], cwd=folder, env=environ, check=True, capture_output=True, timeout=60
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"the module cannot be fetched from here: {error}")
    subprocess.run([go, "build", "-o", "reader", "."], cwd=folder, env=environ, check=True, timeout=300)
    return folder / "reader"


@pytest.mark.parametrize("size", [259, 600])
def test_gos_client_reads_an_export_and_proves_every_record(program: Path, tmp_path: Path, size: int) -> None:
    """A log that only we can read is no transparency log."""
    write_export(filled(MemoryStore(), size), tmp_path)
    key = ed25519_key(ORIGIN, LEDGER.public_key().public_bytes_raw())
    done = subprocess.run([program, tmp_path, str(key)], capture_output=True, check=False, text=True, timeout=120)
    assert done.stdout == f"read {size} of {size}\n", done.stdout + done.stderr
    other = ed25519_key(ORIGIN, bytes(31) + b"\x01")
    done = subprocess.run([program, tmp_path, str(other)], capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 1
    assert "error" in done.stdout
