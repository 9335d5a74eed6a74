#!/usr/bin/env bash
# Everything that can be said of the code without running it. The steps run side by side; each one's name is printed when
# it has ended, with what it said. One that fails fails the whole, after the others have had their say.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
names=()
pids=()

step() {
  names+=("$1")
  shift
  "$@" >"$said/${#names[@]}" 2>&1 &
  pids+=("$!")
}

helm=$("$bin/python" -c "import asyncio; from sandbox.toolchain import Toolchain; print(asyncio.run(Toolchain().ensure()).helm)")
step "ruff: lint" "$bin/ruff" check --quiet .
step "ruff: format" "$bin/ruff" format --quiet --check .
step "mypy: types" "$bin/mypy" --no-error-summary
step "import-linter: who may import whom" "$bin/lint-imports" --no-logo
step "shellcheck: scripts" "$bin/shellcheck" .ci/run scripts/*.sh
step "helm lint: chart" "$helm" lint --strict --quiet charts/entrypackage-operator -f charts/entrypackage-operator/ci/minimal-values.yaml
step "generated: crds/" "$bin/python" -m entrypackage.crd --check
step "generated: docs/failures.md" "$bin/python" -m entrypackage.failures_page --check

failed=()
for place in "${!pids[@]}"; do
  code=0
  wait "${pids[$place]}" || code=$?
  printf '==> %s\n' "${names[$place]}"
  cat "$said/$((place + 1))"
  [ "$code" = 0 ] || failed+=("${names[$place]}")
done
if [ "${#failed[@]}" != 0 ]; then
  printf 'Failed: %s\n' "${failed[@]}"
  exit 1
fi
