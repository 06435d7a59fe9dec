# The bot with PyTorch's CUDA build; compose.yaml beside it runs it.
FROM python:3.12-slim

# Triton compiles the model's blocks with a C compiler; without one they run uncompiled.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
# requirements.txt is there for `doctor` alone.
COPY requirements.txt requirements.lock requirements-torch.lock ./
RUN pip install --no-cache-dir -r requirements-torch.lock \
    && pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY bot bot
COPY cogs cogs
COPY storage storage

# The code is root's; what the bot writes is its own user's.
RUN useradd --uid 1000 --create-home imagebot \
    && mkdir data models && chown imagebot: data models
USER 1000:1000
# Code in a read-only file system cannot be compiled beside itself.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
VOLUME ["/app/data", "/app/models"]
EXPOSE 8765

# Settings, card, model files, rights and room; or the demo's page. "unhealthy" restarts nothing.
HEALTHCHECK --interval=5m --timeout=60s --start-period=1m \
    CMD python -m bot doctor --quick >/dev/null 2>&1 \
    || python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/', timeout=5)"

# The list form: the signal to stop reaches Python, not a shell.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "bot"]
CMD ["start"]
