"""Which modules travel with a release."""

# Modules of machine/ that every release carries as tool/<name>.py, beside this package as tool/contract/.
TOOL = (
    "release", "rollout", "host", "drop_ins", "accounts", "data", "acme", "certificates", "unpacked", "drift", "slots",
    "traffic", "venvs", "builds", "nginx", "commands", "logs", "files", "probe", "facts", "with_env", "managers",
    "packages", "redis_server", "processes", "schedule", "hints", "causes", "credentials", "uv",
    "release_commands", "handover", "data_archive", "site_command", "data_disk", "disk", "pause", "space", "view",
    "connections", "shared_port", "maintenance", "status", "workers", "access_log", "metrics", "metrics_text", "kept",
    "rollback", "lock", "audit", "hardening", "revive", "sbom", "metadata", "dumps", "updates", "log_rotation",
    "timers", "build_user", "shared_data", "inputs", "has_lease",
)  # fmt: skip
# Modules that the server of a database, or of Redis alone, needs beside TOOL, and who brings a managed one its schema.
SERVICE_TOOL = ("service", "database", "database_tls", "managed_database")
# Modules that the members of a scaling group and their release host need beside TOOL.
STORE_TOOL = (
    "store", "member", "own_machine", "take", "offers", "release_host", "lease", "lease_socket", "roll", "versions",
    "joined",
)  # fmt: skip
CONTRACT = (
    "__init__", "paths", "placeholders", "documents", "codec", "tool", "processes", "requirements", "resources",
    "kept", "service_documents", "store_documents", "user", "updates", "numbers", "nfs",
)  # fmt: skip
