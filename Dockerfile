# sagan_tf in a container.
#
#   docker build -t sagan-tf .                                            CPU
#   docker build -t sagan-tf --build-arg EXTRAS=cuda,tflite,serving .     NVIDIA GPUs
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" sagan-tf train        with GPUs: add --gpus all
#
# `--user` makes the run's files yours; without it the user is 1000, who may not write into the mounted folder.
# CUDA's libraries come from pip (the extra `cuda`), so the host needs the driver and NVIDIA's container toolkit only.
FROM python:3.12-slim

ARG EXTRAS=tflite,serving

COPY . /source
RUN pip install --no-cache-dir "/source[${EXTRAS}]" && rm -rf /source

# Any user may write here. One without a name has no home but $HOME, for the caches of sagan_tf, Keras and TFDS.
ENV HOME=/home/sagan USER=sagan
RUN install --directory --mode=1777 "$HOME" /work
USER 1000:1000
WORKDIR /work

ENTRYPOINT ["sagan"]
CMD ["train"]
