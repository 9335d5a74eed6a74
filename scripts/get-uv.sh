#!/usr/bin/env bash
# Put uv into a folder of this checkout, where the machine has none. Needs Python 3.11 or newer with venv.
set -euo pipefail
folder=${1%/bin/}
python=$(command -v python3.14 || command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3 || true)
if [ -z "$python" ]; then
  echo "There is neither uv nor Python here: install uv, or Python 3.11 or newer." >&2
  exit 1
fi
if ! "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))'; then
  echo "$("$python" --version) is too old: install uv, or Python 3.11 or newer." >&2
  exit 1
fi
echo "==> uv, into ${folder}"
"$python" -m venv "$folder" || {
  echo "Python cannot make a virtual environment: install its venv package (python3-venv), or uv." >&2
  exit 1
}
"$folder/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.8' || {
  echo "uv could not be installed: is the Python package index reachable?" >&2
  exit 1
}
