defmodule MyAppWeb.Layouts do
  use Phoenix.Component

  def root(assigns) do
    ~H"""
    <!DOCTYPE html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <title>MyApp</title>
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
    <p :for={{_kind, message} <- @flash}>{message}</p>
    {@inner_content}
    """
  end
end
