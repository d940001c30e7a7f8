from datetime import timedelta

from django.core.management.base import BaseCommand
from django.utils import timezone

from articles.models import Article


class Command(BaseCommand):
    help = "Deletes drafts that nobody has changed for --days days. Run it nightly."

    def add_arguments(self, parser):
        parser.add_argument("--days", type=int, default=30)

    def handle(self, *args, days, **options):
        old = Article.objects.filter(draft=True, changed__lt=timezone.now() - timedelta(days=days))
        self.stdout.write(f"{old.count()} drafts deleted")
        old.delete()
