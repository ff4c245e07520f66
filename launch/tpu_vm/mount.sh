# The hosts share the run folder: they mount its bucket.
if ! mountpoint --quiet {{mount}}; then
    curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg \
        -o /usr/share/keyrings/cloud.google.asc
    echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc]" \
        "https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" \
        >/etc/apt/sources.list.d/gcsfuse.list
    apt-get update && apt-get install -y gcsfuse
    mkdir -p {{mount}}
    gcsfuse --implicit-dirs {{bucket}} {{mount}} || exit
fi
