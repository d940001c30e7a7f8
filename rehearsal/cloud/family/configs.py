"""Units and configuration files of the family's packages, as short as they can be and still say the same.

Sources: the spec files and their sources at https://src.fedoraproject.org/rpms/ (nginx, supervisor, uwsgi and redis,
branch epel7; mariadb, branch f18 for 5.5 and f28 for 10.3), and https://git.centos.org/rpms/mariadb/tree/c7.
"""

NGINX_UNIT = """\
[Unit]
Description=The nginx HTTP and reverse proxy server
After=network-online.target remote-fs.target nss-lookup.target
Wants=network-online.target

[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStartPre=/usr/bin/rm -f /run/nginx.pid
ExecStartPre=/usr/sbin/nginx -t
ExecStart=/usr/sbin/nginx
ExecReload=/usr/sbin/nginx -s reload
KillSignal=SIGQUIT
TimeoutStopSec=5
KillMode=process
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""

NGINX = """\
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log;
pid /run/nginx.pid;

include /usr/share/nginx/modules/*.conf;

events {
    worker_connections 1024;
}

http {
    access_log /var/log/nginx/access.log combined;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    include /etc/nginx/conf.d/*.conf;

    server {
        listen 80;
        listen [::]:80;
        server_name _;
        root /usr/share/nginx/html;
        include /etc/nginx/default.d/*.conf;
    }
}
"""

NGINX_LOGROTATE = """\
/var/log/nginx/*.log {
    create 0640 nginx root
    daily
    rotate 10
    missingok
    notifempty
    compress
    delaycompress
    sharedscripts
    postrotate
        /bin/kill -USR1 `cat /run/nginx.pid 2>/dev/null` 2>/dev/null || true
    endscript
}
"""

SUPERVISOR_UNIT = """\
[Unit]
Description=Process Monitoring and Control Daemon
After=rc-local.service nss-user-lookup.target

[Service]
Type=forking
ExecStart=/usr/bin/supervisord -c /etc/supervisord.conf

[Install]
WantedBy=multi-user.target
"""

SUPERVISOR = """\
[unix_http_server]
file=/var/run/supervisor/supervisor.sock

[supervisord]
logfile=/var/log/supervisor/supervisord.log
logfile_maxbytes=50MB
logfile_backups=10
loglevel=info
pidfile=/var/run/supervisord.pid
nodaemon=false
minfds=1024
minprocs=200

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix:///var/run/supervisor/supervisor.sock

[include]
files = supervisord.d/*.ini
"""

UWSGI_UNIT = """\
[Unit]
Description=uWSGI Emperor Service
After=syslog.target

[Service]
RuntimeDirectory=uwsgi
ExecStart=/usr/sbin/uwsgi --ini /etc/uwsgi.ini
ExecReload=/bin/kill -HUP $MAINPID
KillSignal=SIGINT
Restart=always
Type=notify
StandardError=syslog
NotifyAccess=all

[Install]
WantedBy=multi-user.target
"""

UWSGI = """\
[uwsgi]
uid = uwsgi
gid = uwsgi
pidfile = /run/uwsgi/uwsgi.pid
emperor = /etc/uwsgi.d
stats = /run/uwsgi/stats.sock
chmod-socket = 660
emperor-tyrant = true
cap = setgid,setuid
"""

REDIS_UNIT = """\
[Unit]
Description=Redis persistent key-value database
After=network.target

[Service]
ExecStart=/usr/bin/redis-server /etc/redis.conf --supervised systemd
Type=notify
User=redis
Group=redis
RuntimeDirectory=redis
RuntimeDirectoryMode=0755

[Install]
WantedBy=multi-user.target
"""

REDIS = """\
bind 127.0.0.1
port 6379
dir /var/lib/redis
logfile /var/log/redis/redis.log
"""

# MariaDB 5.5 of CentOS 7 runs under mysqld_safe, and has a log of its own.
MARIADB_55_UNIT = """\
[Unit]
Description=MariaDB database server
After=syslog.target
After=network.target

[Service]
Type=simple
User=mysql
Group=mysql
ExecStartPre=/usr/libexec/mariadb-prepare-db-dir %n
ExecStart=/usr/bin/mysqld_safe --basedir=/usr
ExecStartPost=/usr/libexec/mariadb-wait-ready $MAINPID
TimeoutSec=300
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""

MARIADB_UNIT = """\
[Unit]
Description=MariaDB database server
After=network.target

[Service]
Type=notify
User=mysql
Group=mysql
ExecStartPre=/usr/libexec/mysql-prepare-db-dir %n
ExecStart=/usr/libexec/mysqld --basedir=/usr $MYSQLD_OPTS $_WSREP_NEW_CLUSTER
KillSignal=SIGTERM
SendSIGKILL=no
Restart=on-abort
RestartSec=5s
TimeoutSec=300
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""

# The folder of the data, as the server will read it, has its system tables or gets them.
MARIADB_PREPARE = """\
#!/bin/sh
datadir=$(my_print_defaults mysqld | sed -n "s/^--datadir=//p" | tail -n 1)
[ -d "$datadir/mysql" ] || mysql_install_db --datadir="$datadir" >/dev/null
"""

MARIADB_WAIT = """\
#!/bin/sh
while [ -d "/proc/$1" ]; do
    response=$(mysqladmin --no-defaults --socket=/var/lib/mysql/mysql.sock --user=UNKNOWN_MYSQL_USER ping 2>&1)
    case $response in
    *"mysqld is alive"* | *"Access denied for user"*) exit 0 ;;
    esac
    sleep 1
done
exit 1
"""

MY_CNF_55 = """\
[mysqld]
datadir=/var/lib/mysql
socket=/var/lib/mysql/mysql.sock
symbolic-links=0

[mysqld_safe]
log-error=/var/log/mariadb/mariadb.log
pid-file=/var/run/mariadb/mariadb.pid

!includedir /etc/my.cnf.d
"""

MY_CNF = """\
[client-server]

!includedir /etc/my.cnf.d
"""

MARIADB_SERVER_CNF = """\
[mysqld]
datadir=/var/lib/mysql
socket=/var/lib/mysql/mysql.sock
log-error=/var/log/mariadb/mariadb.log
pid-file=/run/mariadb/mariadb.pid
"""

# The family's client has this socket by itself, and Debian's another one.
MARIADB_CLIENT_CNF = "[client]\nsocket=/var/lib/mysql/mysql.sock\n"

OPENSSL_11 = """\
Name: OpenSSL
Description: Secure Sockets Layer and cryptography libraries and tools
Version: 1.1.1
Libs: -L/usr/lib64/openssl11 -lssl -lcrypto
Cflags: -I/usr/include/openssl11
"""

CENTOS7_OS_RELEASE = """\
NAME="CentOS Linux"
VERSION="7 (Core), rehearsed on Debian 12"
ID="centos"
ID_LIKE="rhel fedora"
VERSION_ID="7"
PRETTY_NAME="CentOS Linux 7 (Core), rehearsed on Debian 12"
"""

ALINUX3_OS_RELEASE = """\
NAME="Alibaba Cloud Linux"
VERSION="3 (OpenAnolis Edition), rehearsed on Debian 12"
ID="alinux"
ID_LIKE="rhel fedora centos anolis"
VERSION_ID="3"
PLATFORM_ID="platform:al8"
PRETTY_NAME="Alibaba Cloud Linux 3 (OpenAnolis Edition), rehearsed on Debian 12"
"""
