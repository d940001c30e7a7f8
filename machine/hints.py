"""pip's output → what the user does next: a package of the OS, or a login. Python 3.6, standard library only."""

import re
from typing import Dict, List, NamedTuple, Pattern

from contract import paths

# The systems whose package manager is apt; the packages of the others are RPMs.
_APT = ("debian12", "debian13", "ubuntu2204")


class _Missing(NamedTuple):
    """what: as the message names it. apt, rpm: packages, separated by spaces."""

    what: str
    apt: str
    rpm: str


def _row(pattern: str, what: str, apt: str, rpm: str) -> Dict[Pattern[str], _Missing]:
    return {re.compile(pattern, re.MULTILINE): _Missing(what, apt, rpm)}


_MYSQL = ("default-libmysqlclient-dev pkg-config", "mariadb-devel pkgconfig")
_POSTGRES = ("libpq-dev", "postgresql-devel")
_XML = ("libxml2-dev libxslt1-dev", "libxml2-devel libxslt-devel")
_XMLSEC = ("libxmlsec1-dev pkg-config", "xmlsec1-devel xmlsec1-openssl-devel libtool-ltdl-devel pkgconfig")
_LDAP = ("libldap-dev libsasl2-dev", "openldap-devel cyrus-sasl-devel")
_CAIRO = ("libcairo2-dev pkg-config", "cairo-devel pkgconfig")
_IMAGES = ("libjpeg-dev zlib1g-dev", "libjpeg-turbo-devel zlib-devel")
_KERBEROS = ("libkrb5-dev", "krb5-devel")
_TLS = ("libssl-dev pkg-config", "openssl-devel pkgconfig")
# Headers that the compiler does not find → what it is called, and its packages.
_HEADERS = {
    "Python.h": ("Python's headers", "python3-dev", "python3-devel"),
    "mysql.h": ("MySQL's client library", *_MYSQL),
    "mysql/mysql.h": ("MySQL's client library", *_MYSQL),
    "libpq-fe.h": ("PostgreSQL's client library", *_POSTGRES),
    "libxml/xpath.h": ("libxml2", *_XML),
    "libxml/xmlversion.h": ("libxml2", *_XML),
    "lber.h": ("OpenLDAP", *_LDAP),
    "ldap.h": ("OpenLDAP", *_LDAP),
    "sasl/sasl.h": ("SASL", *_LDAP),
    "sql.h": ("unixODBC", "unixodbc-dev g++", "unixODBC-devel gcc-c++"),
    "ffi.h": ("libffi", "libffi-dev", "libffi-devel"),
    "yaml.h": ("libyaml", "libyaml-dev", "libyaml-devel"),
    "openssl/opensslv.h": ("OpenSSL", *_TLS),
    "openssl/ssl.h": ("OpenSSL", *_TLS),
    "gmp.h": ("GMP", "libgmp-dev", "gmp-devel"),
    "mpfr.h": ("MPFR", "libmpfr-dev libmpc-dev", "mpfr-devel libmpc-devel"),
    "mpc.h": ("MPC", "libmpfr-dev libmpc-dev", "mpfr-devel libmpc-devel"),
    "jpeglib.h": ("libjpeg", *_IMAGES),
    "zlib.h": ("zlib", "zlib1g-dev", "zlib-devel"),
    "bzlib.h": ("bzip2", "libbz2-dev", "bzip2-devel"),
    "pcre.h": ("PCRE", "libpcre3-dev", "pcre-devel"),
    "pcre2.h": ("PCRE2", "libpcre2-dev", "pcre2-devel"),
    "curl/curl.h": ("libcurl", "libcurl4-openssl-dev libssl-dev", "libcurl-devel openssl-devel"),
    "geos_c.h": ("GEOS", "libgeos-dev", "geos-devel"),
    "graphviz/cgraph.h": ("Graphviz", "libgraphviz-dev", "graphviz-devel"),
    "magic.h": ("libmagic", "libmagic-dev", "file-devel"),
    "gssapi/gssapi.h": ("Kerberos", *_KERBEROS),
    "krb5.h": ("Kerberos", *_KERBEROS),
    "snappy-c.h": ("Snappy", "libsnappy-dev", "snappy-devel"),
    "leveldb/db.h": ("LevelDB", "libleveldb-dev", "leveldb-devel"),
    "sodium.h": ("libsodium", "libsodium-dev", "libsodium-devel"),
    "portaudio.h": ("PortAudio", "portaudio19-dev", "portaudio-devel"),
}
# What else an output says, the most certain first.
_SAYINGS = {
    **_row(r"mysql_config: (?:command )?not found|MYSQLCLIENT_CFLAGS|Trying pkg-config --exists mysqlclient",
           "MySQL's client library", *_MYSQL),
    **_row("pg_config executable not found|pg_config is required", "PostgreSQL's client library", *_POSTGRES),
    **_row("make sure the libxml2 and libxslt development packages|xslt-config: not found", "libxml2", *_XML),
    **_row(r"exists', 'cairo|Package '?cairo'?.* not found|Dependency \"cairo\" not found", "cairo", *_CAIRO),
    **_row("xmlsec1 is not installed|pkg-config .*xmlsec1|Unable to invoke pkg-config", "xmlsec1", *_XMLSEC),
    **_row("headers or library files could not be found for (?:jpeg|zlib)", "libjpeg or zlib", *_IMAGES),
    **_row("krb5-config: not found|'krb5-config", "Kerberos", *_KERBEROS),
    **_row("Could not find directory of OpenSSL installation", "OpenSSL", *_TLS),
    **_row(r"can't find Rust compiler|Rust toolchain|`?cargo`?,? .*not (?:installed|found)|No such file.*'cargo'",
           "a Rust compiler", "cargo", "cargo"),
    **_row("gdal-config", "GDAL", "libgdal-dev g++", "gdal-devel gcc-c++"),
    **_row("curl-config", "libcurl", "libcurl4-openssl-dev libssl-dev", "libcurl-devel openssl-devel"),
    **_row("(?:command|find command) '?git'?|No such file or directory: '?git'?", "git", "git", "git"),
    **_row("cannot run ssh: No such file|exec: ssh: not found", "ssh", "openssh-client", "openssh-clients"),
    **_row("[Cc]annot find command '?hg'?", "Mercurial", "mercurial", "mercurial"),
    **_row("[Cc]annot find command '?svn'?", "Subversion", "subversion", "subversion"),
    **_row(r"(?:g\+\+|c\+\+)'?: (?:No such file|command not found|not found)|No such file.*g\+\+'|cc1plus",
           "a C++ compiler", "g++", "gcc-c++"),
    **_row("gcc'? failed: No such file|command '?cc'? failed|unable to execute '?gcc", "a C compiler", "gcc", "gcc"),
    **_row("CMake must be installed|No such file.*'cmake'|cmake: not found", "CMake", "cmake make", "cmake make"),
    **_row("make: (?:command )?not found|No such file.*'make'", "make", "make", "make"),
    **_row("pkg-config'?:? (?:command )?not found", "pkg-config", "pkg-config", "pkgconfig"),
}  # fmt: skip
# Lines by which pip or git says that a host does not hand out a file without a login, or not with this login.
_REFUSED = re.compile(
    r"^.*(?:could not read (?:Username|Password)|Authentication failed|[Ee]rror:? 40[13]\b|\b40[13] (?:Client )?Error)"
    r".*$",
    re.MULTILINE,
)
_HOST = re.compile(r"https?://(?:[^/@'\s]*@)?([^/:'\s]+)")
_UNKNOWN = re.compile(r"\(from versions: none\)(?s:.*?)No matching distribution found for (\S+)")
_HEADER = re.compile(r"fatal error: '?([^\s':]+)'?(?:: No such file| file not found)")
_LIBRARY = re.compile(r"cannot find -l([A-Za-z0-9_+-]+)")


def missing(output: str) -> List[_Missing]:
    """What pip's output says is missing on the machine, the most certain first; the packages may be unknown."""
    found = []
    for header in _HEADER.findall(output):
        found.append(_Missing(*_HEADERS[header]) if header in _HEADERS else _Missing(header, "", ""))
    found += [saying for pattern, saying in _SAYINGS.items() if pattern.search(output)]
    found += [_Missing("the library lib{}".format(name), "", "") for name in _LIBRARY.findall(output)]
    # A header whose package is known says more than one of which only the name is.
    return sorted(found, key=lambda row: not row.apt)[:1]


# pip's refusal of a file whose hash is not the pinned one; the next line names the file.
_ALTERED = re.compile(r"PACKAGES DO NOT MATCH THE HASHES[^\n]*\n\s+(\S+)")


def next_step(output: str, system: str) -> str:
    """What the user does next about a failed installation, "" when the output names nothing that is missing."""
    for row in missing(output):
        packages = row.apt if system in _APT else row.rpm
        if packages:
            words = ", ".join(packages.split())
            return "{} is missing on the server: add {} to server.packages, and run up again".format(row.what, words)
        return (
            "{} is missing on the server: add the {} package that has it to server.packages, and run up again".format(
                row.what, system
            )
        )
    altered = _ALTERED.search(output)
    if altered:
        return (
            "the package index has another file of {} than its hash says: if the hash is right, set "
            "server.mirrors.index to an index that you trust, and run up again".format(altered.group(1))
        )
    what = login(output)
    return what + ", and run up again" if what else ""


def login(output: str) -> str:
    """What to do about a download that its host refuses, "" when the output names none."""
    hosts = [host for line in _REFUSED.findall(output) for host in _HOST.findall(line)[:1]]
    if hosts:
        return "{} wants a login, or refuses the one that it got: set its name and token in app.pip.netrc".format(
            hosts[0]
        )
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in output:
        what = (
            "the git server has another host key than before: if that is right, remove its line from {} on the server"
        )
        return what.format(paths.BUILD_HOME + "/known_hosts")
    if "Permission denied (publickey" in output or "Host key verification failed" in output:
        return "the git server refuses the login by ssh: set app.pip.ssh_key to a deploy key of the repository"
    unknown = _UNKNOWN.search(output)
    if unknown:
        what = "no package index that the server asks has {}: fix its name, or add the index that has it to {}"
        return what.format(unknown.group(1), "app.pip.extra_index_url, with its login")
    return ""
