if match?({:module, _}, Code.ensure_compiled(PowPersistentSession.Plug.Base)) do
  defmodule Mix.Tasks.PowRedisCache.IndexTokens do
    @shortdoc "Makes the persistent sessions of each user found in one lookup"

    @moduledoc """
    Adds the records of `PowRedisCache.PersistentSessionStore` to the tokens that Pow's own store wrote, and
    records that it has. Run it once, when all servers of the app use the store, also if there are no tokens.

        mix pow_redis_cache.index_tokens [--otp-app my_app]

    Starts the app, and reads its configuration of Pow. Shows a progress bar on a terminal, and lines in a
    log. The task is safe to run on a live system, to interrupt, and to repeat. In a release:

        bin/my_app rpc "PowRedisCache.PersistentSessionStore.index_tokens(otp_app: :my_app)"

    ## Options

      * `--otp-app` - the app. Defaults to that of the project.
    """

    use Mix.Task

    alias PowRedisCache.{PersistentSessionStore, Progress}

    @impl true
    def run(arguments) do
      app = app!(arguments)
      Mix.Task.run("app.start")
      tokens = PersistentSessionStore.index_tokens(otp_app: app, progress: Progress.new())
      Mix.shell().info("Indexed #{tokens} tokens")
    rescue
      error in [ArgumentError, PowRedisCache.Error] -> Mix.raise(Exception.message(error))
    end

    defp app!(arguments) do
      case OptionParser.parse(arguments, strict: [otp_app: :string]) do
        {[otp_app: app], [], []} ->
          String.to_atom(app)

        {[], [], []} ->
          Mix.Project.config()[:app]

        _unknown ->
          Mix.raise(
            "expected only --otp-app APP, got other arguments. See mix help pow_redis_cache.index_tokens"
          )
      end
    end
  end
end
