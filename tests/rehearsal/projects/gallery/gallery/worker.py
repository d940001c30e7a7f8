"""python -m gallery.worker: runs jobs until it is stopped."""

from redis import Redis
from rq import Queue, Worker

from gallery import create_app

if __name__ == "__main__":
    app = create_app()
    with app.app_context():
        connection = Redis.from_url(app.config["REDIS_URL"])
        Worker([Queue(connection=connection)], connection=connection).work()
