"""What a machine takes over from the host: package sources, certificates, pip's index, proxies.

So a rehearsal works on a host in a closed network, or behind a proxy with its own certificate, without settings.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_APT_KEYS = ("Acquire::Check-Valid-Until", "Acquire::http::Proxy", "Acquire::https::Proxy")

# What a user can do when a package source does not answer.
SOURCES = "put right this host's network, proxy or /etc/apt sources, and run the same again"


@dataclass(frozen=True)
class Packages:
    """apt's settings. sources: lines of sources.list, empty if the host has none. options: lines of apt.conf."""

    sources: str
    options: list[str]


def packages(suite: str) -> Packages:
    """The host's Debian mirrors for `suite`, and its apt options that any machine on this host needs."""
    release = _release(Path("/etc/os-release").read_text())
    texts: dict[str, str] = {}
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.suffix in (".list", ".sources") and path.is_file():
            texts[path.name] = path.read_text()
    codename = release.get("VERSION_CODENAME", "")
    sources = sources_of(texts, codename, suite) if release.get("ID") == "debian" else ""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    options = [line for line in dump.splitlines() if line.split(" ")[0] in _APT_KEYS and not line.endswith(' "";')]
    return Packages(sources, options)


def reason(text: str) -> str:
    """The last error, on one line, of what a program of apt printed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if line.startswith(("E:", "Err:"))), lines[-1] if lines else "no reason"
    )


def _release(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value.strip('"') for key, _, value in pairs}


def sources_of(texts: Mapping[str, str], codename: str, suite: str) -> str:
    """apt's sources (file name → text) as one-line entries of the distribution for `suite`.

    Entries of other distributors are left out. Their suite is not the codename, its -updates or its -security, or they
    lack the component main.
    """
    found: list[tuple[str, str]] = []
    for name, text in texts.items():
        found += _deb822(text) if name.endswith(".sources") else _one_line(text)
    suites = {codename + ending: suite + ending for ending in ("", "-updates", "-security")}
    lines = [f"deb {uri} {suites[old]} main" for uri, old in found if old in suites]
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def _deb822(text: str) -> list[tuple[str, str]]:
    pairs = []
    for stanza in text.split("\n\n"):
        lines = [line for line in stanza.splitlines() if line and not line.startswith(("#", " "))]
        fields = {key.strip().lower(): value.split() for key, _, value in (line.partition(":") for line in lines)}
        if "deb" in fields.get("types", []) and "main" in fields.get("components", []):
            if fields.get("enabled") == ["no"]:
                continue
            pairs += [(uri, suite) for uri in fields.get("uris", []) for suite in fields.get("suites", [])]
    return pairs


def _one_line(text: str) -> list[tuple[str, str]]:
    pairs = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1 and words[1].startswith("["):
            end = next((index for index, word in enumerate(words) if word.endswith("]")), len(words))
            words = [words[0], *words[end + 1 :]]
        if len(words) >= 4 and words[0] == "deb" and "main" in words[3:]:
            pairs.append((words[1], words[2]))
    return pairs


def host_files(packages: Packages, direct: Sequence[str] = ()) -> dict[str, str]:
    """Path → text of the files that carry the host's trust into the image. direct: hosts that no proxy is used for."""
    files = {}
    for certificate in sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt")):
        files[f"/usr/local/share/ca-certificates/{certificate.name}"] = certificate.read_text()
    if packages.options:
        files["/etc/apt/apt.conf.d/91host"] = "\n".join(packages.options) + "\n"
    files["/etc/pip.conf"] = pip_conf(_pip_config())
    proxies = proxy_settings(os.environ, direct)
    if proxies:
        # Services read systemd's file, and SSH sessions read /etc/environment.
        values = " ".join(f'"{key}={value}"' for key, value in proxies.items())
        files["/etc/systemd/system.conf.d/proxy.conf"] = f"[Manager]\nDefaultEnvironment={values}\n"
        files["/etc/environment"] = "".join(f"{key}={value}\n" for key, value in proxies.items())
    return files


def _pip_config() -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True)
    config = {}
    for line in done.stdout.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            config[key.rsplit(".", 1)[-1]] = value.strip("'\"")
    return config


def pip_conf(config: Mapping[str, str]) -> str:
    """The host's pip settings as a machine's /etc/pip.conf. The cached wheels come first."""
    lines = ["[global]", "find-links = /var/cache/rehearsal/wheels"]
    for key in ("index-url", "extra-index-url", "trusted-host"):
        if key in config:
            lines.append(f"{key} = {' '.join(config[key].split())}")
    # Name the host's certificates, because pip uses its own by default.
    lines.append(f"cert = {_CA_BUNDLE}")
    return "\n".join(lines) + "\n"


def proxy_settings(environment: Mapping[str, str], direct: Sequence[str] = ()) -> dict[str, str]:
    """The host's proxies, which are used neither for the machine itself nor for `direct`; empty without proxies."""
    found = {name: environment.get(name) or environment.get(name.upper()) or "" for name in _PROXIES}
    if not found["http_proxy"] and not found["https_proxy"]:
        return {}
    found["no_proxy"] = ",".join(
        dict.fromkeys(["localhost", "127.0.0.1", *direct, *found["no_proxy"].split(",")])
    ).strip(",")
    both = {name: value for name, value in found.items() if value}
    return {**both, **{name.upper(): value for name, value in both.items()}}
