from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        from runs import pools  # noqa: PLC0415 models are there only now
        from runs.models.run import slot_freed  # noqa: PLC0415

        slot_freed.connect(pools.on_slot_freed)
