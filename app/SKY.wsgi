# The sample application as a file without the ending of a module: `wsgi-file = SKY.wsgi`, object `application`.
from app import app as application
