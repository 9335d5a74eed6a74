#!/usr/bin/env bash
# Put uv into a folder of this checkout, where the machine has none. Needs Python 3.11 or newer with venv.
set -euo pipefail
folder=${1%/}
folder=${folder%/bin}

python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
  # A name on the PATH may be a stub that runs nothing, so each one is tried.
  if "$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "There is neither uv nor Python 3.11 or newer here: install one of them." >&2
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
