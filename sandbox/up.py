"""`python -m sandbox up`: keep the product running on this machine and say what to type."""

import argparse
import shlex
import sys
from pathlib import Path

import yaml

from sandbox import aws
from sandbox.composition import Options, Sandbox
from sandbox.processes import SandboxError, die_with_parent, run_program

ENVIRONMENT_FILE = "env"

_WELCOME = """
The product runs. In another terminal, in this folder:

  source {environment}

  # make an entry with a file, edit it, look at what becomes of it
  {python} -m sandbox.simulator entry create --name "Growth curve" --attach plate.csv:20M:deflated
  {python} -m sandbox.simulator entry list
  {python} -m sandbox.simulator entry edit ENTRY
  watch kubectl get entrypackages
  kubectl get pods,nodes
  kubectl logs -l app.kubernetes.io/component=controller --tail=20

  # the files on S3, and one of them
  {python} -m sandbox files
  {python} -m sandbox files KEY

  # what the run would have cost
  {python} -m sandbox.fargate bill --folder {folder}/fargate

Webhooks go to {webhook_url}. Logs: {folder}. Ctrl-C stops everything.
"""


def environment_of(sandbox: Sandbox) -> dict[str, str]:
    """Return the variables that make kubectl, helm, the simulator's verbs and AWS tools talk to this sandbox."""
    tools = [str(path.parent) for path in (sandbox.programs.kubectl, sandbox.programs.helm)]
    own = sandbox.tool_environment()
    return {
        **{name: own[name] for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")},
        "KUBECONFIG": str(sandbox.folder / "kubeconfig"),
        "ENTRYPACKAGE_SIMULATOR": sandbox.simulator["control"],
        **aws.environment(),
        "AWS_ENDPOINT_URL_S3": sandbox.aws.s3,
        "AWS_ENDPOINT_URL_SQS": sandbox.aws.sqs,
        "SANDBOX_BUCKET": sandbox.aws.bucket,
        "SANDBOX_QUEUE_URL": sandbox.aws.queue_url,
        "PATH": ":".join(dict.fromkeys(tools)),
    }


def write_environment(sandbox: Sandbox) -> Path:
    """Write a file for `source`, and a kubeconfig whose default namespace is the sandbox's."""
    kubeconfig = yaml.safe_load(sandbox.control_plane.kubeconfig.read_text(encoding="utf-8"))
    kubeconfig["contexts"][0]["context"]["namespace"] = sandbox.namespace
    (sandbox.folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig), encoding="utf-8")
    lines = []
    for name, value in environment_of(sandbox).items():
        more = '":$PATH"' if name == "PATH" else ""
        lines.append(f"export {name}={shlex.quote(value)}{more}\n")
    file = sandbox.folder / ENVIRONMENT_FILE
    file.write_text("".join(lines), encoding="utf-8")
    return file


async def keep_up(options: Options) -> None:
    """Run a sandbox until a signal, or until one of its parts ends."""
    die_with_parent()
    print("Starting a control plane, a local Fargate, a Benchling and an AWS on this machine ...", flush=True)
    async with Sandbox(options, say=lambda text: print(text, flush=True)) as sandbox:
        environment = write_environment(sandbox)
        python = Path(sys.executable)
        shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
        print(
            _WELCOME.format(
                environment=environment, python=shown, folder=sandbox.folder, webhook_url=sandbox.webhook_url
            ),
            flush=True,
        )
        name = await sandbox.first_to_end()
        raise SandboxError(f"{name} ended, which it should not; see its log in {sandbox.folder}.")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox up", description=__doc__)
    parser.add_argument("--values", type=Path, metavar="FILE", help="chart values, laid over the sandbox's")
    parser.add_argument("--s3", action="store_true", help="S3 is versitygw over a folder, for large packages")
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    parser.add_argument("--keep", action="store_true", help="leave the folder, with its logs, at the end")
    parser.add_argument("--no-install", action="store_true", help="everything but the product")
    given = parser.parse_args(arguments)
    try:
        values = yaml.safe_load(given.values.read_text(encoding="utf-8")) if given.values else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        print(f"error: The values file {given.values} cannot be used: {error}", file=sys.stderr)
        return 2
    options = Options(
        values=values or {},
        s3_on_disk=given.s3,
        folder=given.folder,
        keep=given.keep,
        install=not given.no_install,
    )
    return run_program(lambda: keep_up(options), interactive=True)
