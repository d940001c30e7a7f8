"""`up`: create or update a stack's machines, and prove that the site answers."""

import time
from pathlib import Path

import click

from rehearsal.cloud import host, image, keeper, lock, machine, members, packages_cache, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.images import CLOUD_IMAGES, RECIPES, SUBSTITUTE
from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.registry import PROVIDER
from rehearsal.cloud.store import load_state
from rehearsal.commands import authority, local_archives, overlay, stack_file
from rehearsal.commands.execute import execute
from rehearsal.commands.foresee import Preview
from rehearsal.commands.host_checks import check_host
from rehearsal.commands.owner import give_project_to_user
from rehearsal.commands.preview import masked_errors, predict, print_preview
from rehearsal.commands.show import Show
from rehearsal.commands.site_check import check_site
from rehearsal.engine.engine import Engine
from rehearsal.engine.stack import Stack


def up(root: Path, name: str, ask: bool = False, details: bool = False) -> int:
    """Create or update a stack. Returns the exit code. Raises UserError or RehearsalError.

    ask: let the user confirm the preview if there is anything to do. details: show all of the preview.
    """
    started = time.monotonic()
    stack = stack_file.load(root, name)
    with masked_errors(stack), lock.stack_lock(name):
        show = Show(secrets=stack.secrets)
        preview = predict(root, stack, show)
        check_host(root, name, preview)
        if preview.anything:
            print_preview(preview, show, details)
            if ask and not confirm(preview, show):
                return 1
            show.line("Update", "bold")
            started = time.monotonic() if ask else started
        context, rehearsed = _prepare(root, stack, show, _image_ids(preview))
        engine = Engine(context, PROVIDER, show, unprotect=overlay.UNPROTECT)
        with show:
            code, outputs = execute(root, rehearsed, engine, show)
        _keep(context)
        if code == 0:
            code = check_site(context, outputs, show, overlay.ca_file(rehearsed, root))
            show.line(f"{time.monotonic() - started:.1f} s")
            if engine.changes:
                _keep_packages(context)
        give_project_to_user(root)
    return code


def _keep(context: CloudContext) -> None:
    """Start the keeper of the stack's scaling groups, or end it if there are none."""
    if context.state.records(tokens.SCALING_GROUP):
        keeper.start(context.root, context.stack, context.keys.folder)
    else:
        keeper.stop(context.stack)


def _image_ids(preview: Preview) -> set[str]:
    """Ids of the images from which the stack's machines are made."""
    makers = (tokens.INSTANCE, tokens.SCALING_CONFIGURATION)
    return {record.inputs["imageId"] for type_ in makers for record in preview.records(type_)}


def _prepare(root: Path, stack: Stack, show: Show, image_ids: set[str]) -> tuple[CloudContext, Stack]:
    """Make this host ready. Returns what the resources work with, and the stack as the program will read it."""
    host.prepare(show.note)
    keys = keys_of(root, stack.name)
    has_new_key = keys.ensure()
    rehearsed, system_notes = overlay.rehearsed(stack, keys.public)
    images = _base_images(image_ids, overlay.operating_system(rehearsed), show)
    rehearsed, archive_notes = local_archives.replace_urls(rehearsed, image.archives_folder())
    rehearsed, point, authority_notes = authority.start(rehearsed, keys.folder / authority.ROOTS, show.note)
    for text in (*system_notes, *archive_notes, *authority_notes):
        show.note(text)
    context = CloudContext(root, load_state(stack.name), keys, images, show.say, point)
    for record in context.state.records(tokens.EIP_ADDRESS):
        if "address" in record.facts:
            point(record.facts["address"])
    if has_new_key:
        machine.introduce(context)
    return context, rehearsed


def _base_images(image_ids: set[str], system: str, show: Show) -> dict[str, image.BaseImage]:
    """The base image for each id of a cloud's image; `system`'s for an id that the table does not have."""
    systems = {image_id: CLOUD_IMAGES.get(image_id, system) for image_id in image_ids}
    made = {name: image.ensure(name if name in RECIPES else SUBSTITUTE, show.note) for name in set(systems.values())}
    return {image_id: made[name] for image_id, name in systems.items()}


def confirm(preview: Preview, show: Show) -> bool:
    """Ask the user whether to perform the update that was shown."""
    choices = ("yes", "no", "details")
    question = "Do you want to perform this update? [yes/no/details]"
    while True:
        try:
            answer = click.prompt(question, prompt_suffix=" ", default="no", show_default=False).strip().lower()
        except click.Abort:
            answer = "no"
        meant = [choice for choice in choices if answer and choice.startswith(answer)]
        if meant == ["details"]:
            print_preview(preview, show, details=True)
        elif meant:
            return meant == ["yes"]


def _keep_packages(context: CloudContext) -> None:
    """Keep the packages that machines have downloaded, for the next machines."""
    for record in context.state.records(tokens.INSTANCE):
        packages_cache.collect(context.lxd, record.id, context.images[record.inputs["imageId"]].cache)
    for configuration in context.state.records(tokens.SCALING_CONFIGURATION):
        # The machines of a configuration download the same packages.
        for member in members.all_members(context.lxd, configuration.inputs["scalingGroupId"])[:1]:
            packages_cache.collect(context.lxd, member.id, context.images[configuration.inputs["imageId"]].cache)
