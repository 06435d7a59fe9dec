"""The limits of the settings, as the rules have them."""

from __future__ import annotations

from bot.config.api_keys import user_id_of
from bot.config.settings import Settings
from bot.rules.limits import KeyLimits, Limits


def limits_of(settings: Settings) -> Limits:
    """Return the limits of the settings."""
    return Limits(
        open_jobs=settings.limit_open_jobs,
        images_per_day=settings.limit_images_per_day,
        gpu_seconds_per_day=settings.limit_gpu_seconds_per_day,
        cooldown_s=settings.limit_cooldown_seconds,
        dm_images_per_day=settings.limit_dm_images_per_day,
        dm_gpu_seconds_per_day=settings.limit_dm_gpu_seconds_per_day,
        server_images_per_day=settings.limit_server_images_per_day,
        server_gpu_seconds_per_day=settings.limit_server_gpu_seconds_per_day,
        key_open_jobs=settings.limit_key_open_jobs,
        key_images_per_day=settings.limit_key_images_per_day,
        key_gpu_seconds_per_day=settings.limit_key_gpu_seconds_per_day,
        queue_size=settings.limit_queue_size,
        server_queue_size=settings.limit_server_queue_size,
        by_key=_limits_by_key(settings),
    )


def _limits_by_key(settings: Settings) -> dict[int, KeyLimits]:
    """Return the limits of keys that have some of their own, by the user ids of the keys."""
    if settings.api_keys is not None and (anyone := settings.api_keys.anyone) is not None:
        # Whoever sits at this machine could change the settings as well.
        return {anyone.user_id: KeyLimits()}
    return {
        user_id_of(name): KeyLimits(
            int(own.get("jobs", settings.limit_key_open_jobs)),
            int(own.get("images", settings.limit_key_images_per_day)),
            own.get("seconds", settings.limit_key_gpu_seconds_per_day),
        )
        for name, own in settings.api_key_limits.items()
    }
