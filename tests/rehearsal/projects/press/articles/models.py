from django.db import models


class Article(models.Model):
    title = models.CharField(max_length=200)
    picture = models.FileField(upload_to="pictures", blank=True)
    draft = models.BooleanField(default=False)
    changed = models.DateTimeField(auto_now=True)

    def __str__(self):
        return self.title
