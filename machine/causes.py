"""What an application printed → what its owner does next. Python 3.6, standard library only."""

import re

import data

# Modules whose package has quite another name.
_PACKAGES = {
    "bs4": "beautifulsoup4",
    "corsheaders": "django-cors-headers",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "decouple": "python-decouple",
    "dotenv": "python-dotenv",
    "environ": "django-environ",
    "jwt": "PyJWT",
    "MySQLdb": "mysqlclient",
    "PIL": "Pillow",
    "psycopg2": "psycopg2-binary",
    "rest_framework": "djangorestframework",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
_MODULE = re.compile(r"ModuleNotFoundError: No module named '?([A-Za-z_]\w*)")
# os.environ["NAME"], python-decouple and django-environ.
_VARIABLE = re.compile(
    r"(?:<frozen os>|/os\.py)\", line \d+, in __getitem__\n(?:.*\n){0,6}?KeyError: '(\w+)'"
    r"|UndefinedValueError: (\w+) not found"
    r"|ImproperlyConfigured: Set the (\w+) environment variable"
)


def advice(site: str, lines: str) -> str:
    """What to do about the reason that the lines give, "" when they give none that is known."""
    may_not_write = data.advice(site, lines)
    if may_not_write:
        return may_not_write
    variables, modules = _VARIABLE.findall(lines), _MODULE.findall(lines)
    if variables:
        name = "".join(variables[-1])
        return (
            "set the variable app.env.{0} (a secret: ./rehearse secret set app.env.{0}, or pulumi config set --path "
            "--secret), and run up again".format(name)
        )
    if modules:
        module = modules[-1]
        package = " ({})".format(_PACKAGES[module]) if module in _PACKAGES else ""
        return (
            "add the package that brings the module {}{} to app.requirements, or, if the module is your own, its "
            "folder to app.pythonpath, and run up again".format(module, package)
        )
    return ""
