# sagan_tf in a container.
#
#   docker build -t sagan-tf .                                            CPU
#   docker build -t sagan-tf --build-arg EXTRAS=cuda,tflite,serving .     NVIDIA GPUs
#   docker run --rm -v "$PWD:/work" sagan-tf train                        with GPUs: docker run --gpus all ...
#
# CUDA's libraries come from pip (the extra `cuda`), so the host needs the driver and NVIDIA's container toolkit only.
FROM python:3.12-slim

ARG EXTRAS=tflite,serving

COPY . /source
RUN pip install --no-cache-dir "/source[${EXTRAS}]" && rm -rf /source

RUN useradd --create-home sagan && mkdir /work && chown sagan /work
USER sagan
WORKDIR /work

ENTRYPOINT ["sagan"]
CMD ["train"]
