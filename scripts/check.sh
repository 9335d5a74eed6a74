#!/usr/bin/env bash
# Everything that can be said of the code without running it. Each step's name is printed; the first failure ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin

step() {
  printf '==> %s\n' "$1"
  shift
  "$@"
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
