# One image for every part. Started as it is, it runs the whole service in one process with a database of its own in /data;
# docker-compose.yml starts the parts from it with other commands. There is no build step: Node runs the .ts files.
FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app

# Manifests alone first, so that a change of code does not install everything anew. A test checks that no workspace is missing.
COPY package.json package-lock.json .npmrc ./
COPY apps/api/package.json apps/api/
COPY apps/dispatcher/package.json apps/dispatcher/
COPY apps/standalone/package.json apps/standalone/
COPY apps/worker/package.json apps/worker/
COPY packages/catalog/package.json packages/catalog/
COPY packages/core/package.json packages/core/
COPY packages/dialects/package.json packages/dialects/
COPY packages/engine/package.json packages/engine/
COPY packages/providers/package.json packages/providers/
# Without the development tools, among them the pinned Node: the image brings its own.
RUN npm ci --omit=dev && npm cache clean --force

COPY migrations migrations
COPY packages packages
COPY apps apps

# The data folder belongs to the user that runs the service; Postgres refuses to run as root anyway.
RUN mkdir /data && chown node:node /data
USER node
ENV HOST=0.0.0.0 PORT=8080 DATA_DIR=/data
VOLUME /data
EXPOSE 8080
CMD ["node", "apps/standalone/main.ts"]
