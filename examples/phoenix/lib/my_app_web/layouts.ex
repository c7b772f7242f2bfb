defmodule MyAppWeb.Layouts do
  use Phoenix.Component

  def root(assigns) do
    ~H"""
    <!DOCTYPE html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="csrf-token" content={Plug.CSRFProtection.get_csrf_token()} />
        <title>MyApp</title>
        <style>
          body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif; color: #222 }
          form { display: inline }
          button { padding: .3rem .8rem; font: inherit; white-space: nowrap; cursor: pointer }
          label { display: block; margin: .8rem 0 .2rem }
          input:not([type=checkbox]) { width: 20rem; padding: .3rem; font: inherit }
          form button { margin: .2rem .5rem .2rem 0 }
          table { width: 100%; margin-bottom: 1.5rem; border-collapse: collapse }
          th, td { padding: .6rem 1rem .6rem 0; border-bottom: 1px solid #ccc; text-align: left; vertical-align: top }
          small { display: block; color: #666 }
        </style>
        <script src="/js/phoenix.min.js">
        </script>
        <script src="/js/phoenix_live_view.min.js">
        </script>
        <script>
          addEventListener("DOMContentLoaded", () => {
            const token = document.querySelector("meta[name=csrf-token]").content
            new LiveView.LiveSocket("/live", Phoenix.Socket, {params: {_csrf_token: token}}).connect()
          })
        </script>
      </head>
      <body>
        {@inner_content}
      </body>
    </html>
    """
  end

  # Pow's pages use this layout too.
  def app(assigns) do
    ~H"""
    <p :for={{_kind, message} <- @flash} role="status">{message}</p>
    {@inner_content}
    """
  end
end
