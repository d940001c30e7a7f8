"""The texts that a release's archive carries beside the application."""

from collections.abc import Mapping

from contract.codec import encode
from contract.documents import CONFIG_FOLDER, HOST_FILE, RELEASE_FILE, TOOL_FOLDER, Host
from contract.tool import CONTRACT, SERVICE_TOOL, STORE_TOOL, TOOL
from serving.plan import ServingPlan, SitePlan
from templates import source


def release_files(site: SitePlan) -> dict[str, str]:
    """Relative path → text of what a site's release carries beside the application."""
    return {RELEASE_FILE: encode(site.release), **_config_files(site.configs), **_tool_files(TOOL)}


def host_files(plan: ServingPlan) -> dict[str, str]:
    """Relative path → text of what a machine's own release carries."""
    needs_service = plan.service or (isinstance(plan.host, Host) and plan.host.database)
    tool = (*TOOL, *SERVICE_TOOL) if needs_service else TOOL
    # A member gets its releases by the store, and the release host unpacks a member's archive.
    tool = (*tool, *STORE_TOOL) if plan.store_units else tool
    return {HOST_FILE: encode(plan.host), **_config_files(plan.configs), **_tool_files(tool)}


def _config_files(configs: Mapping[str, str]) -> dict[str, str]:
    return {f"{CONFIG_FOLDER}{name}": text for name, text in configs.items()}


def _tool_files(names: tuple[str, ...]) -> dict[str, str]:
    """The release tool's modules, and the contract package that they import."""
    modules = {f"{TOOL_FOLDER}{name}.py": source(f"machine/{name}.py") for name in names}
    modules[f"{TOOL_FOLDER}run.sh"] = source("machine/run.sh")
    return modules | {f"{TOOL_FOLDER}contract/{name}.py": source(f"contract/{name}.py") for name in CONTRACT}
