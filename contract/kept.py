"""What is kept beside a release in its site's folder of releases, so that the release can serve again.

releases/<id>/secrets.json   what the release had on standard input when it served last (root 0600)
releases/<id>/origin.json    where its application comes from
releases/<id>/served         made when it has served; its time says since when it serves, or served last
"""

from typing import Dict, List, NamedTuple, Optional

SECRETS_FILE = "secrets.json"
ORIGIN_FILE = "origin.json"
SERVED_FILE = "served"
# Variable by which a command of the program says on a server who runs it.
BY = "WSGI_ECS_BY"


class Secrets(NamedTuple):
    """What does not travel in an archive.

    env: name → text. files: file name → text beside the release's configs. pip: what credentials.lent() takes.
    """

    env: Dict[str, str]
    files: Dict[str, str]
    pip: Dict[str, str] = {}


class Origin(NamedTuple):
    """Where an application comes from.

    by: user@host of whom the content is from. commit: of git, "" where git does not know the folder. clean: whether the
    folder had no change beside the commit, None without a commit. fronts: on an app server, ids of the releases that
    the server with nginx had with this one.
    """

    by: str = ""
    commit: str = ""
    clean: Optional[bool] = None
    fronts: List[str] = []
