# A wheel that `python -m build --wheel` made, with the page and Parquet:
#   docker build -t mowich . && docker run --rm mowich compare --help
#   docker run --rm -p 8000:8000 mowich web --host 0.0.0.0
FROM python:3.13-slim
COPY dist/*.whl /tmp/
RUN set -- /tmp/mowich-*.whl && pip install --no-cache-dir "$1[web,tables]" && rm /tmp/*.whl
RUN useradd --create-home user
USER user
WORKDIR /home/user
EXPOSE 8000
ENTRYPOINT ["mowich"]
CMD ["--help"]
