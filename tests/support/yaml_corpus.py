"""YAML as people really write it: pods in every odd form that must survive an edit byte for byte; no rules here."""

# ruff: noqa: E501  # a document that is broken over lines here is hard to recognise
from typing import Final

_HEAD: Final = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: odd\n"
_SPEC: Final = "spec:\n  runtimeClassName: contrast-cc\n"

PODS: Final[dict[str, str]] = {
    "plain": _HEAD + _SPEC + "  containers:\n    - name: a\n      image: i\n",
    "lists not indented": _HEAD
    + _SPEC
    + "  containers:\n  - name: a\n    image: i\n  volumes:\n  - name: v\n    emptyDir: {}\n",
    "very odd indentation": (
        "apiVersion: v1\nkind: Pod\nmetadata:\n         name: odd\n" + "spec:\n runtimeClassName: contrast-cc\n"
        " containers:\n       -     name: a\n             image: i\n             volumeMounts:\n"
        "              -  name: v\n                 mountPath: /v\n"
    ),
    "dash alone on its line": _HEAD + _SPEC + "  containers:\n  -\n    name: a\n    image: i\n  -   \n      name: b\n",
    "comments everywhere": (
        "# head\n" + _HEAD + "  # of the metadata\n" + _SPEC + "  # of the list\n  containers: # all of them\n"
        "  # of the first\n  - name: a # its name\n    # nothing more\n\n\n  # of nothing\n\n# tail\n"
    ),
    "comments before init containers": (
        _HEAD + _SPEC + "  initContainers: # in order\n    # migrates\n    - name: m\n      image: i\n"
        "  containers:\n    - name: a\n"
    ),
    "crlf": (_HEAD + _SPEC + "  containers:\n    - name: a\n      image: i # c\n").replace("\n", "\r\n"),
    "crlf and lf mixed": _HEAD
    + "spec:\r\n  runtimeClassName: contrast-cc\r\n  containers:\r\n  - name: a\n    image: i\r\n",
    "old mac line breaks": (_HEAD + _SPEC + "  containers:\n    - name: a\n").replace("\n", "\r"),
    "byte order mark": "\ufeff" + _HEAD + _SPEC + "  containers:\n    - name: a\n",
    "byte order mark and flow": "\ufeff{apiVersion: v1, kind: Pod, metadata: {name: odd}, spec: {containers: [{name: a}]}}",
    "tabs before comments": _HEAD
    + "spec:\t# tab\n  containers:\t\t# tabs\n    - name: a\t# tab\n      image: i \t # both\n",
    "tabs between tokens": _HEAD + "spec:\n  containers:\n    - name:\ta\n      image:\t'i'\t\n",
    "no final newline": _HEAD + _SPEC + "  containers:\n    - name: a\n      image: i",
    "no final newline, comment": _HEAD + _SPEC + "  containers:\n    - name: a # last",
    "no final newline, block scalar": _HEAD
    + _SPEC
    + "  containers:\n  - name: a\n    args:\n    - |\n      one\n      two",
    "no final newline, null": _HEAD + "spec:\n  containers:\n  - name: a\n    volumeMounts:",
    "block scalars": (
        _HEAD + _SPEC + "  containers:\n    - name: a\n      args:\n        - |+\n          kept\n\n\n    - name: b\n"
        "      args: [x]\n      command:\n      - sh\n      - -c\n      - >2-\n           folded\n         more\n\n  # end\n"
    ),
    "block scalar with what looks like YAML": (
        _HEAD
        + "  annotations:\n    script: |\n      spec:\n        containers: []\n      ---\n      # not a comment\n"
        + _SPEC
        + "  containers:\n    - name: a\n"
    ),
    "flow": '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "odd"}, "spec": {"containers": [{"name": "a"}]}}\n',
    "flow over lines": _HEAD + "spec: {\n  containers: [ # all\n    {name: a, image: i}, # first\n  ], # end\n}\n",
    "flow with trailing commas": _HEAD
    + "spec: {containers: [{name: a, volumeMounts: [{name: v, mountPath: /v},],},],}\n",
    "flow empties": _HEAD
    + "  annotations: {}\nspec:\n  volumes: [ ]\n  initContainers: []\n  containers: [{name: a, volumeMounts: []}]\n",
    "nulls": _HEAD
    + "  annotations:\nspec:\n  volumes: ~\n  initContainers: null\n  containers:\n  - name: a\n    volumeMounts: # none\n",
    "documents glued together": (
        "---\n"
        + _HEAD
        + _SPEC
        + "  containers:\n  - name: a\n---\n---\n# only a comment\n--- # again\n"
        + _HEAD.replace("odd", "odder")
        + _SPEC
        + "  containers:\n  - name: a\n...\n# after the end\n---\nkind: Other\n"
    ),
    "end marker": _HEAD + _SPEC + "  containers:\n  - name: a\n...\n",
    "quoted keys": (
        '"apiVersion": v1\n\'kind\': "Pod"\n"metadata":\n  \'name\': "odd"\n"spec":\n  "containers":\n  - "name": a\n'
        '    "volumeMounts":\n    - {"name": v, "mountPath": /v}\n'
    ),
    "question marks": _HEAD
    + "spec:\n  containers:\n  - name: a\n    ? volumeMounts\n    : - name: v\n        mountPath: /v\n",
    "not ascii": _HEAD
    + '  labels:\n    größe: "naïve ☃ 𝄞" # Ünïcödé 漢字\n'
    + _SPEC
    + "  containers:\n  - name: a # ✓\n",
    "anchors shared by all": (
        _HEAD + _SPEC + "  containers:\n  - name: a\n    volumeMounts: &mounts\n    - name: v\n      mountPath: /v\n"
        "  - name: b\n    volumeMounts: *mounts\n"
    ),
    "anchors on what is not edited": (
        _HEAD
        + _SPEC
        + "  containers:\n  - &a\n    name: a\n    env: &env [{name: A, value: b}]\n  - name: b\n    env: *env\n"
    ),
    "merge keys on what is not edited": (
        _HEAD + "  labels: &labels {app: x}\n" + _SPEC + "  nodeSelector:\n    <<: *labels\n    more: y\n"
        "  containers:\n  - name: a\n"
    ),
    "tags": _HEAD + "spec: !!map\n  containers: !!seq\n  - name: !!str a\n    args: [!!str 1]\n",
    "list": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: odd}\n  spec:\n"
        "    containers:\n    - name: a\n-   apiVersion: v1\n    kind: Pod\n    metadata:\n      name: odder\n    spec:\n"
        "        containers:\n        - name: a\n"
    ),
    "plain text over lines": _HEAD
    + "  annotations:\n    why: because\n      it is\n      long\n"
    + _SPEC
    + "  containers:\n  - name: a\n",
    "trailing blanks": _HEAD + "spec:   \n  containers:  \n  - name: a   \n    image: i  \n   \n\n",
}

REFUSED: Final[dict[str, tuple[str, int, str]]] = {
    # name: (text, line of the fault, a word of the message)
    "mounts merged in from elsewhere": (
        "x: &defaults\n  volumeMounts:\n  - name: v\n    mountPath: /v\n" + _HEAD
        + "spec:\n  containers:\n  - <<: *defaults\n    name: a\n",
        11, "merge key",
    ),
    "mounts shared with something else": (
        _HEAD + "x: &mounts\n- name: v\n  mountPath: /v\nspec:\n  containers:\n  - name: a\n    volumeMounts: *mounts\n",
        11, "*mounts",
    ),
    "duplicate key": (_HEAD + "spec:\n  containers:\n  - name: a\n    image: i\n    'image': j\n", 9, "line 8 already"),
    "duplicate key in one line": ("kind: Pod\nmetadata: {name: a, name: b}\n", 2, "line 2 already"),
    "tab as indentation": ("kind: Pod\nmetadata:\n\tname: a\n", 3, "tab"),
    "key that is a list": ("kind: Pod\n? [a]\n: b\n", 2, "text keys"),
    "null key": ("kind: Pod\n~: b\n", 2, "null key"),
    "unknown anchor": ("kind: Pod\nmetadata: *nowhere\n", 2, "*nowhere"),
    "anchor that holds itself": ("kind: &a [*a]\n", 1, "*a"),
    "infinity": ("kind: Pod\nx: .inf\n", 2, "quote it"),
    "newer YAML": ("%YAML 1.2\n---\nkind: Pod\n", 2, "1.1"),
    "next line character": ("kind: Pod\nx: a\x85b\n", 2, "U+0085"),
    "control character": ("kind: Pod\nx: \x07\n", 2, "U+0007"),
    "half of a character": ('kind: Pod\nx: "\\ud83d"\n', 2, "surrogate"),
    "merge after the key": ("kind: Pod\na: &a {b: 1}\nx:\n  b: 2\n  <<: *a\n", 5, "put << first"),
    "merge of a text": ("kind: Pod\nx:\n  <<: a\n", 3, "wants a mapping"),
    "unclosed": ("kind: Pod\nx: {a: [1, 2\n", 3, "not YAML"),
    "two mappings in one": ("kind: Pod\nx: a: b\n", 2, "not YAML"),
    "too deep": ("kind: Pod\nx: " + "[" * 200 + "]" * 200 + "\n", 2, "deep"),
    "billion laughs": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
        1, "values",
    ),
}  # fmt: skip
