from django.urls import path

from articles import views

urlpatterns = [
    path("", views.index, name="index"),
    path("articles/new", views.create, name="create"),
    path("ping/", views.ping, name="ping"),
]
