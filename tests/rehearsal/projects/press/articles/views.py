from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from articles.models import Article


def index(request):
    return render(request, "articles/index.html", {"articles": Article.objects.order_by("id")})


def ping(request):
    return HttpResponse(f"{Article.objects.count()} articles\n", content_type="text/plain")


@csrf_exempt
@require_POST
def create(request):
    Article.objects.create(
        title=request.POST["title"], picture=request.FILES.get("picture", ""), draft="draft" in request.POST
    )
    return redirect("index")
